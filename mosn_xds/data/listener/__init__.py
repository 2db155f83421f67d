"""Listeners at work: accepting, inspecting, choosing a filter chain, draining what was replaced."""
