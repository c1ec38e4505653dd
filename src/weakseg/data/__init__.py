"""Images and labels in the VOC layout: reading, checking, generating, cropping."""
