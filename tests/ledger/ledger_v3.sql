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
	decode_seconds DOUBLE, intensity_low DOUBLE, intensity_high DOUBLE, intensity_answer DOUBLE, rule TEXT, considered JSON, charged_to TEXT, tools_disabled BOOLEAN, cached_tokens INTEGER, fingerprint TEXT, frontier TEXT, money DOUBLE, currency TEXT, prompt_text TEXT, reasoning_text TEXT, answer_text TEXT, intensity_bounded DOUBLE, intensity_snapped DOUBLE, dropped_tokens INTEGER, 
	PRIMARY KEY (id)
);
INSERT INTO "calls" VALUES(1,'7ce42c8218072e8c35bf992dc9e9c616',2,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["read_file"]','["add", "search"]',1,NULL,'default',0.5,0.763774618976614,1.34364244112401221009e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.2550690257394217, "entropy": "inf"}',352,0,31,7,9,16,'tool_calls','model',NULL,1,NULL,NULL,'tiny','merged',3,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 8127947761689302090, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "deadline": null}','0.1.0',1790000001.0,9.69040650294099470407e-01,7.60962444912575586286e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "calls" VALUES(2,'ae66267594c9c9500925e4749b575bd1',1,'run',NULL,'root',NULL,NULL,NULL,'[]','{}',3,'["search", "add"]','["search"]','[]',0,'auto','init',0.5,5.65513677268086878413e-02,9.56034271889249387399e-01,'thinking','estimated 0.43, snapped to 0.5','default','confidence','{"surprise": 0.08487199515892163, "entropy": "inf"}',119,0,10,8,6,14,'stop',NULL,NULL,NULL,'DeadlineExceeded','late','tiny','merged',0,'{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": null, "repetition_penalty": null, "seed": 1636562308039547768, "logprobs": null}','{"max_tokens": 100, "max_reasoning_tokens": null, "answer_reserve": 0, "stop": ["END"], "deadline": null}','0.1.0',1790000002.0,1.76719980874232351908e-01,7.35969989068523289255e-01,0.1,0.2,0.3,0.65,1.5,NULL,NULL,NULL,NULL,'[]','answer',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE dami_migrations (
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	applied_at DOUBLE NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "dami_migrations" VALUES(1,'one row per attempt at a call',1.79574818890775084493e+09);
INSERT INTO "dami_migrations" VALUES(2,'bounds, rule, charge, cache, money and (where wanted) text of a call',1.79574818891920757295e+09);
INSERT INTO "dami_migrations" VALUES(3,'λ as bounded and as snapped to the grid, tokens dropped',1.7957481889219529628e+09);
CREATE INDEX calls_by_root_run_id ON calls (root_run_id);
CREATE INDEX calls_by_thread_id ON calls (thread_id);
CREATE INDEX calls_by_call_id ON calls (call_id);
CREATE INDEX calls_by_started_at ON calls (started_at);
CREATE INDEX calls_by_run_id ON calls (run_id);
COMMIT;
