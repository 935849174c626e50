"""What should change in the fleet?"""
