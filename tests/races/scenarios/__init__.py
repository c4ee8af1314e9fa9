"""Each function is a scenario: its docstring says what meets what, its lines how."""
