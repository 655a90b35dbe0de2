//! A network of cores on a virtual clock: scenarios, curves and figures.
