"""How far long work is: a bar for items, a table for trainings, and what the machine does meanwhile."""
