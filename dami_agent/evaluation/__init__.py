"""Measurements: frontiers, tool calls, agents, calibration of the confidence estimator.

Everything runs the way an application runs it (policy, dialogue, engine, ledger, and for agents LangChain around them);
data of the *test* split are only reported on, whatever is chosen is chosen on the *calibration* split.
"""
