"""The stages `download` and `download_images`: fetch or draw annotations and images."""
