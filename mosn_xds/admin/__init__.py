"""The admin API: Envoy's pages in Envoy's shapes, and what Envoy hides. It reads the agent's totals and waits for no worker."""
