"""Search parameters: many experiments, on this machine or a cluster, as one study that goes on after a kill."""
