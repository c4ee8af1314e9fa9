"""The probes that count, and the programs, maps and attachments behind them."""
