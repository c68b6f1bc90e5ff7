"""twolane's local layer: reads ``template.yaml`` and stands in for AWS. It never ships."""
