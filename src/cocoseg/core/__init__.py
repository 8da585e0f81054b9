"""What every stage needs: parameters, files, errors."""
