"""Choose what each server gets, and put it there in one rename."""
