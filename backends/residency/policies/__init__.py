"""Who is woken first, who is put to sleep for it, and when a switch is worth it. One file each."""
