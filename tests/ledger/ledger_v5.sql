-- A ledger as schema 5 was written: sqlite3's .dump of a file with three calls, one failed, all priced, one with discarded tokens.
BEGIN TRANSACTION;
CREATE TABLE calls (
	id INTEGER NOT NULL, 
	call_id TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	run_id TEXT, 
	parent_run_id TEXT, 
	root_run_id TEXT, 
	thread_id TEXT, 
	node TEXT, 
	step INTEGER, 
	tags JSON NOT NULL, 
	metadata JSON NOT NULL, 
	messages INTEGER NOT NULL, 
	tools_bound JSON NOT NULL, 
	tools_digested JSON NOT NULL, 
	tools_called JSON NOT NULL, 
	invalid_tool_calls INTEGER NOT NULL, 
	asked TEXT, 
	asked_by TEXT, 
	intensity_requested DOUBLE, 
	intensity_estimated DOUBLE, 
	intensity DOUBLE, 
	template TEXT, 
	reason TEXT, 
	policy TEXT, 
	estimator TEXT, 
	features JSON NOT NULL, 
	prompt_tokens INTEGER NOT NULL, 
	probe_tokens INTEGER NOT NULL, 
	scored_tokens INTEGER NOT NULL, 
	reasoning_tokens INTEGER NOT NULL, 
	answer_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	finish_reason TEXT, 
	thought_closed_by TEXT, 
	stop TEXT, 
	accepted BOOLEAN, 
	error_type TEXT, 
	error TEXT, 
	model TEXT NOT NULL, 
	weights_mode TEXT, 
	weights_version INTEGER, 
	sampling JSON NOT NULL, 
	limits JSON NOT NULL, 
	version TEXT NOT NULL, 
	started_at DOUBLE NOT NULL, 
	seconds DOUBLE NOT NULL, 
	estimate_seconds DOUBLE, 
	queue_seconds DOUBLE, 
	switch_seconds DOUBLE, 
	prefill_seconds DOUBLE, 
	first_token_seconds DOUBLE, 
	decode_seconds DOUBLE, intensity_low DOUBLE, intensity_high DOUBLE, intensity_answer DOUBLE, rule TEXT, considered JSON, charged_to TEXT, tools_disabled BOOLEAN, cached_tokens INTEGER, fingerprint TEXT, frontier TEXT, cost DOUBLE, currency TEXT, prompt_text TEXT, reasoning_text TEXT, answer_text TEXT, intensity_bounded DOUBLE, intensity_snapped DOUBLE, discarded_tokens INTEGER, run_name TEXT, root_run_name TEXT, trace_names JSON, 
	PRIMARY KEY (id)
);
INSERT INTO "calls" VALUES(1,'78633074b7970386fee2947631162427',1,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["search"]','["add", "search"]',1,'high','default',0.5,3.6995516654807925061e-01,2.37964627091891367527e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.6039200385961945, "entropy": "inf"}',22,0,4,6,4,12,'tool_calls','cap',NULL,1,NULL,NULL,'tiny','merged',4,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 8831351687602725010, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000003.0,7.80076489083556423587e-01,6.05599530139326880373e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,3.6e-05,'EUR','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}, {"role": "assistant", "content": "", "name": null, "reasoning": null, "tool_calls": [{"id": "c1", "name": "search", "arguments": {}}], "tool_call_id": null, "status": "success"}, {"role": "tool", "content": "SECRET RESULT", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": "c1", "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}','SECRET THOUGHT','SECRET ANSWER
<tool_call>
{"name": "add", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
{"name": "search", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
SECRET CALL
</tool_call>',NULL,NULL,2,'digest','nightly-agent','["nightly"]');
INSERT INTO "calls" VALUES(2,'5f2dd97f1cfb10f62827688de6a16a3b',2,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',1,'["search", "add"]','[]','["add", "search"]',1,'high','default',NULL,7.9519356556569664729e-01,6.22901694889701929014e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.9424502837770503, "entropy": "inf"}',228,0,1,3,9,12,'tool_calls','cap',NULL,1,NULL,NULL,'tiny','merged',2,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 5699363113523364586, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000005.0,1.32240854216924663688e-01,8.40348120522667829668e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,3.6e-05,'EUR','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}','SECRET THOUGHT','SECRET ANSWER
<tool_call>
{"name": "add", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
{"name": "search", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
SECRET CALL
</tool_call>',NULL,NULL,0,'digest','nightly-agent','["nightly"]');
INSERT INTO "calls" VALUES(3,'45cf8aa4059a91e1c527e27951c34250',2,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["add"]','[]',0,'high','default',0.5,4.85034627930945316798e-01,0.793340083761663,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.2616214829446579, "entropy": "inf"}',48,0,0,3,8,11,'stop','model',NULL,NULL,'ContextOverflow','long','tiny','merged',5,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 3917159913023005433, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000006.0,8.00282719805425868386e-01,1.45578016808767252143e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,3.3e-05,'EUR','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}, {"role": "assistant", "content": "", "name": null, "reasoning": null, "tool_calls": [{"id": "c1", "name": "add", "arguments": {}}], "tool_call_id": null, "status": "success"}, {"role": "tool", "content": "SECRET RESULT", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": "c1", "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}',NULL,NULL,NULL,NULL,0,'digest','nightly-agent','["nightly"]');
CREATE TABLE dami_migrations (
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	applied_at DOUBLE NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "dami_migrations" VALUES(1,'one row per attempt at a call',1.79577115692503476145e+09);
INSERT INTO "dami_migrations" VALUES(2,'bounds, rule, charge, cache, money and (where wanted) text of a call',1.79577115693238115309e+09);
INSERT INTO "dami_migrations" VALUES(3,'λ as bounded and as snapped to the grid, tokens dropped',1.79577115693653035165e+09);
INSERT INTO "dami_migrations" VALUES(4,'names of runs and traces',1795771156.93797);
INSERT INTO "dami_migrations" VALUES(5,'cost for money, discarded_tokens for dropped_tokens',1.79582053011727190011e+09);
CREATE INDEX calls_by_run_id ON calls (run_id);
CREATE INDEX calls_by_root_run_id ON calls (root_run_id);
CREATE INDEX calls_by_thread_id ON calls (thread_id);
CREATE INDEX calls_by_started_at ON calls (started_at);
CREATE INDEX calls_by_call_id ON calls (call_id);
COMMIT;
