"""Texts of notices that ship with the product. Words in ${} are filled in from what a tenant's lines are set to do."""
