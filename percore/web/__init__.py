"""What a host shows to programs and browsers: a process of its own beside the supervisor, which only reads."""
