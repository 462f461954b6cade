"""The data: one file per dataset, each a plugin that offers one or several splits."""
