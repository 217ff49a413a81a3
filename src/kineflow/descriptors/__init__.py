"""Motion described by hand: orientation histograms, Fisher vectors and linear machines; no network, no GPU."""
