"""How much the platform carries on this machine: `python -m bench`. See README.md."""
