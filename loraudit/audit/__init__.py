"""The audit of files: targets to reports. `audit.audit_lora` is the story, read it first."""
