"""What the control process makes of the call records: an analytical store, questions to it, alerts, exports."""
