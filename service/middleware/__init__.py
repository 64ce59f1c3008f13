"""What every request passes on its way to its handler: one layer, since each costs them all."""
