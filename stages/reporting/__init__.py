"""What people read: features of images, intervals, tables, figures. Knows no kind; what differs with it is handed in."""
