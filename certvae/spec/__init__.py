"""What names a cell: frozen trees of plain values, checked when built. Light: importing it loads no torch."""
