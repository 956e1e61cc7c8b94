"""How good are the answers: metrics, exact search, and the protocol that joins them."""
