"""Tables: rows of a store as numbers that can be printed."""
