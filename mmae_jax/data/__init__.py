"""From files on disk to global batches on the devices."""
