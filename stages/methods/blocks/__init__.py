"""What methods are built of: small parts that know one thing each."""
