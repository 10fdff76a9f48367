"""A LangChain chat model that thinks only as deeply as each step needs."""
