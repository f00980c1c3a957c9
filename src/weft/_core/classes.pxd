# No C declarations: the file makes this a compiled module.
