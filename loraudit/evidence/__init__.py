"""Evidence: what attacks brought back, as plain numbers, and the statistics that a verdict rests on."""
