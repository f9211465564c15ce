"""Results to application entities: C-STORE, and how a peer confirms that it keeps what it took."""
