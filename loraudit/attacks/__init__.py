"""Attacks: from a LoRA and its base to embeddings at which the tuned model may draw the private person.

An attack sees the file and the public base only. `loraudit.attacks.table` lists the attacks.
`loraudit.attacks.plan` makes the pictures, the same way for every attack.
"""
