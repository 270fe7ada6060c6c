"""Where candidates come from: designs, tempered posterior draws, pools."""
