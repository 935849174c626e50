"""What does an instance compute next?"""
