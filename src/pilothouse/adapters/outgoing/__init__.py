"""What goes out to addresses that people named: webhooks and notifications."""
