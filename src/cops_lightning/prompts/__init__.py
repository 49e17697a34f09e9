"""Features to prompts: explicit state tokens, implicit class tokens, and the scaffold that holds both."""
