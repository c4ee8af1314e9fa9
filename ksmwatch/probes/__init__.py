"""Which probes count, and the programs, maps and attachments behind them."""
