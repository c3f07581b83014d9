"""From runs to what is read: records, weights with cards, tables, figures, the README."""
