"""The commands, one module each: options, wiring, rendering. A module is loaded when its command is used.

Importing one loads neither torch nor diffusers; what needs them is imported inside the command.
"""
