"""THE COMMAND: one file a verb; a verb imports what it needs when it is called."""
