"""What every layer of the data path speaks: exchanges, policies, problems, clocks, tasks."""
