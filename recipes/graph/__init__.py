"""The only rooms where doit is known: tasks, the run command, the database, what a person sees, and the commands."""
