"""The site: a release as pages that a browser shows without a server behind them (docs/site.md)."""
