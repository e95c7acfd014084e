"""What hub and session process say to each other. Pure: no sockets, no processes, no clock."""
