"""Making a workspace one's own: `kineflow init` for new data, `kineflow use` for a shipped preset."""
