"""What a token may allow (docs/api.md, section 2)."""

READ, WRITE, VOTE, ACT = "read", "write", "vote", "act"
ACTIONS = (READ, WRITE, VOTE)
"""What a token allows unless told otherwise; acting for users must be asked for."""
ALL_ACTIONS = (*ACTIONS, ACT)
ANY = "*"
"""All workspaces, or all courses."""
