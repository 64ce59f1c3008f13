"""What many processes and a sharded cluster would do, by simulation: see docs/scaling.md."""
