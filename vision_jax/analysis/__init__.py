"""From what a run left behind to tables and arrays; reads files, knows no task."""
