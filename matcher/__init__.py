"""Links short video clips to the long programs they were cut from, and says where."""
