"""What MindPal is taught, and every file format that crosses a container."""
