"""The networks of NExT-GPT as plain torch modules; nothing here knows the graph engine."""
