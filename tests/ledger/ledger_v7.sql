-- A ledger as schema 7 was written: the calls of ledger_v6.sql, migrated, and one more, whose prompt was read again in part.
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
	decode_seconds DOUBLE, intensity_low DOUBLE, intensity_high DOUBLE, intensity_answer DOUBLE, rule TEXT, considered JSON, charged_to TEXT, tools_disabled BOOLEAN, cached_tokens INTEGER, fingerprint TEXT, frontier TEXT, cost DOUBLE, currency TEXT, prompt_text TEXT, reasoning_text TEXT, answer_text TEXT, intensity_bounded DOUBLE, intensity_snapped DOUBLE, discarded_tokens INTEGER, run_name TEXT, root_run_name TEXT, trace_names JSON, intensity_prompt DOUBLE, reread_tokens INTEGER, 
	PRIMARY KEY (id)
);
INSERT INTO "calls" VALUES(1,'76191b3867ced9d210abffe15bfe0688',1,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["add"]','["add", "search"]',1,'0.5','default',NULL,8.09742755495276855803e-01,4.94487435979434675203e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.320615569452388, "entropy": "inf"}',413,0,20,2,1,5,'tool_calls','model',NULL,1,NULL,NULL,'tiny','merged',2,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 243302069042774282, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000061.0,1.27892335718314487102e-01,8.03977248766771235288e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,206,NULL,NULL,1.5e-05,'USD','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}, {"role": "assistant", "content": "", "name": null, "reasoning": null, "tool_calls": [{"id": "c1", "name": "add", "arguments": {}}], "tool_call_id": null, "status": "success"}, {"role": "tool", "content": "SECRET RESULT", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": "c1", "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}','SECRET THOUGHT','SECRET ANSWER
<tool_call>
{"name": "add", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
{"name": "search", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
SECRET CALL
</tool_call>',NULL,NULL,2,'digest','nightly-agent','["nightly"]',NULL,NULL);
INSERT INTO "calls" VALUES(2,'8bb9a1b7538aa842142aee70b7f99c31',2,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["search"]','["add", "search"]',1,'high','default',NULL,5.18726818404445566557e-01,9.27991565877674284834e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.77529863915214, "entropy": "inf"}',103,8,21,9,9,26,'tool_calls','cap',NULL,1,NULL,NULL,'tiny','merged',0,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 5255968292534497407, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000062.0,1.47882187733423098308e-01,9.51665174887348586096e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,51,NULL,NULL,7.8e-05,'USD','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}, {"role": "assistant", "content": "", "name": null, "reasoning": null, "tool_calls": [{"id": "c1", "name": "search", "arguments": {}}], "tool_call_id": null, "status": "success"}, {"role": "tool", "content": "SECRET RESULT", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": "c1", "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}','SECRET THOUGHT','SECRET ANSWER
<tool_call>
{"name": "add", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
{"name": "search", "arguments": {"q": "SECRET ARG"}}
</tool_call>
<tool_call>
SECRET CALL
</tool_call>',NULL,NULL,0,'digest','nightly-agent','["nightly"]',1.0,NULL);
INSERT INTO "calls" VALUES(3,'e7f5026ce9ae72c0088dcb26f90539d7',2,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',1,'["search", "add"]','[]','[]',0,'auto','init',0.5,6.00647942906036291788e-02,4.4513922515682280423e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.6616426545754814, "entropy": "inf"}',314,6,8,3,10,19,'stop',NULL,NULL,NULL,'ContextOverflow','long','tiny','merged',0,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 5329940584911611292, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000063.0,9.27522904185163588053e-01,3.28150013348652569433e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,5.7e-05,'USD','{"messages": [{"role": "user", "content": "SECRET QUESTION", "name": null, "reasoning": null, "tool_calls": [], "tool_call_id": null, "status": "success"}], "tools": [{"name": "search", "description": "", "parameters": {}, "strict": true}, {"name": "add", "description": "", "parameters": {}, "strict": true}], "tool_choice": {"mode": "auto", "name": null}, "parallel_tool_calls": true, "structured": false, "response_format": null}',NULL,NULL,NULL,NULL,0,'digest','nightly-agent','["nightly"]',NULL,NULL);
INSERT INTO "calls" VALUES(4,'read-again',1,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',1,'["search", "add"]','[]','["add", "search"]',1,'high','default',NULL,1.26330898650859557719e-01,2.26705859381048813183e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.7048169228716079, "entropy": "inf"}',198,0,5,9,6,15,'tool_calls',NULL,NULL,1,NULL,NULL,'tiny','merged',9,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 7509970142036076429, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "timeout": null, "max_tokens_by": ""}','0.1.0',1790000064.0,8.29532246121802430138e-01,1.36843012626774451767e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,4.5e-05,'USD',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,'[]',NULL,48);
CREATE TABLE dami_migrations (
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	applied_at DOUBLE NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "dami_migrations" VALUES(1,'one row per attempt at a call',1.79583149953369593625e+09);
INSERT INTO "dami_migrations" VALUES(2,'bounds, rule, charge, cache, money and (where wanted) text of a call',1.79583149954019498828e+09);
INSERT INTO "dami_migrations" VALUES(3,'λ as bounded and as snapped to the grid, tokens dropped',1.79583149954704809187e+09);
INSERT INTO "dami_migrations" VALUES(4,'names of runs and traces',1.79583149954867506026e+09);
INSERT INTO "dami_migrations" VALUES(5,'cost for money, discarded_tokens for dropped_tokens',1.79583149954948329929e+09);
INSERT INTO "dami_migrations" VALUES(6,'λ that the prompt was read at',1.79583149955530142782e+09);
INSERT INTO "dami_migrations" VALUES(7,'prompt tokens read again because λ changed',1.79584784045308113093e+09);
CREATE INDEX calls_by_root_run_id ON calls (root_run_id);
CREATE INDEX calls_by_started_at ON calls (started_at);
CREATE INDEX calls_by_call_id ON calls (call_id);
CREATE INDEX calls_by_thread_id ON calls (thread_id);
CREATE INDEX calls_by_run_id ON calls (run_id);
COMMIT;
