"""Speed on a CPU: this engine beside other runtimes."""
